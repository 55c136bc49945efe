{#- The type of a list of small integers. -#}
{% macro type_codes() -%}
    {{ return(adapter.dispatch('type_codes', 'nextmove')()) }}
{%- endmacro %}

{% macro default__type_codes() -%} smallint[] {%- endmacro %}

{% macro snowflake__type_codes() -%} array {%- endmacro %}
