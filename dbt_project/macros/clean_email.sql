{#- An email address as identifier: no surrounding blanks, lower case; NULL for what is no address. -#}
{% macro clean_email(column) -%}
    case when {{ column }} like '%@%' then lower({{ nextmove.trimmed(column) }}) end
{%- endmacro %}
