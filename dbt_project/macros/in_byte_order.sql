{#- A text to sort by or to compare, in the order of its bytes, so that every warehouse finds the same first one. -#}
{% macro in_byte_order(column) -%}
    {{ return(adapter.dispatch('in_byte_order', 'nextmove')(column)) }}
{%- endmacro %}

{% macro default__in_byte_order(column) -%} {{ column }} {%- endmacro %}

{% macro postgres__in_byte_order(column) -%} {{ column }} collate "C" {%- endmacro %}
