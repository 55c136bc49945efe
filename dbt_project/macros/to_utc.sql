{#- A time with a zone as UTC time without one, whatever zone the session is in. -#}
{% macro to_utc(column) -%}
    {{ return(adapter.dispatch('to_utc', 'nextmove')(column)) }}
{%- endmacro %}

{% macro default__to_utc(column) -%}
    cast({{ column }} at time zone 'UTC' as timestamp)
{%- endmacro %}

{% macro snowflake__to_utc(column) -%}
    cast(convert_timezone('UTC', {{ column }}) as timestamp)
{%- endmacro %}
