{#- Whether an event counts for one of the windowed features at as_of. -#}
{% macro is_in_a_window(events) -%}
    {%- set features = var('nextmove_windowed_counts').values() | list + [var('nextmove_page_path')] %}
    {%- for feature in features if feature.events == events %}
        {{ 'or ' if not loop.first }}(({{ feature.where }}) and occurred_at > {{ nextmove.before_as_of(feature.hours) }})
    {%- endfor %}
{%- endmacro %}
