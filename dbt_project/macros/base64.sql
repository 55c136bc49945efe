{#- Bytes as base64 text in one line. -#}
{% macro base64(column) -%}
    {{ return(adapter.dispatch('base64', 'nextmove')(column)) }}
{%- endmacro %}

{% macro default__base64(column) -%}
    to_base64({{ column }})
{%- endmacro %}

{% macro postgres__base64(column) -%}
    replace(encode({{ column }}, 'base64'), chr(10), '')
{%- endmacro %}

{% macro snowflake__base64(column) -%}
    base64_encode({{ column }})
{%- endmacro %}
