{#- Hours from one timestamp to another, with fractions, as double. -#}
{% macro hours_between(earlier, later) -%}
    {{ return(adapter.dispatch('hours_between', 'nextmove')(earlier, later)) }}
{%- endmacro %}

{% macro default__hours_between(earlier, later) -%}
    (cast({{ dbt.datediff(earlier, later, 'microsecond') }} as double precision) / 3600000000)
{%- endmacro %}

{% macro duckdb__hours_between(earlier, later) -%}
    (cast(epoch_us({{ later }}) - epoch_us({{ earlier }}) as double precision) / 3600000000)
{%- endmacro %}

{% macro postgres__hours_between(earlier, later) -%}
    (cast(extract(epoch from ({{ later }} - {{ earlier }})) as double precision) / 3600)
{%- endmacro %}
