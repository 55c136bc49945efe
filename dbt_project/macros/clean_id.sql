{#- Any other identifier: no surrounding blanks, NULL when empty. -#}
{% macro clean_id(column) -%}
    nullif({{ nextmove.trimmed(column) }}, '')
{%- endmacro %}
