{#- A phone number as identifier: digits and a leading plus only, NULL when empty. -#}
{% macro clean_phone(column) -%}
    {{ return(adapter.dispatch('clean_phone', 'nextmove')(column)) }}
{%- endmacro %}

{% macro default__clean_phone(column) -%}
    nullif(regexp_replace({{ column }}, '[^0-9+]', '', 'g'), '')
{%- endmacro %}

{% macro snowflake__clean_phone(column) -%}
    nullif(regexp_replace({{ column }}, '[^0-9+]', ''), '')
{%- endmacro %}
