{#- The counts of `nextmove_windowed_counts` over one kind of events, as columns. -#}
{% macro windowed_counts(events) -%}
    {%- for name, count in var('nextmove_windowed_counts').items() if count.events == events %}
    {{- ',' if not loop.first }}
        {{ nextmove.count_within('occurred_at', count.hours, '(' ~ count.where ~ ')') }} as {{ name }}
    {%- endfor %}
{%- endmacro %}
