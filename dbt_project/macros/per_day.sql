{#- Counts, added, per day of their window, as double. -#}
{% macro per_day(rate) -%}
    cast({{ rate.counts | join(' + ') }} as double precision) / {{ rate.days }}
{%- endmacro %}
