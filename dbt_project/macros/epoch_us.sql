{#- A timestamp (UTC) as microseconds since 1970, exactly. -#}
{% macro epoch_us(column) -%}
    {{ return(adapter.dispatch('epoch_us', 'nextmove')(column)) }}
{%- endmacro %}

{% macro default__epoch_us(column) -%}
    cast({{ dbt.datediff("timestamp '1970-01-01 00:00:00'", column, 'microsecond') }} as bigint)
{%- endmacro %}

{% macro duckdb__epoch_us(column) -%}
    epoch_us({{ column }})
{%- endmacro %}

{% macro postgres__epoch_us(column) -%}
    cast(extract(epoch from {{ column }}) * 1000000 as bigint)
{%- endmacro %}
