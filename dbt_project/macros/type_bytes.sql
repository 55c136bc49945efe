{#- The type of bytes. -#}
{% macro type_bytes() -%}
    {{ return(adapter.dispatch('type_bytes', 'nextmove')()) }}
{%- endmacro %}

{% macro default__type_bytes() -%} blob {%- endmacro %}

{% macro postgres__type_bytes() -%} bytea {%- endmacro %}

{% macro snowflake__type_bytes() -%} binary {%- endmacro %}
