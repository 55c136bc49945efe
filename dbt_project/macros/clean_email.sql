{#- An email address as identifier: no surrounding blanks, lower case, NULL when empty. -#}
{% macro clean_email(column) -%}
    nullif(lower({{ nextmove.trimmed(column) }}), '')
{%- endmacro %}
