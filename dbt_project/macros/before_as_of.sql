{#- `as_of` minus a number of hours. -#}
{% macro before_as_of(hours) -%}
    {{ dbt.dateadd('hour', -hours, nextmove.as_of()) }}
{%- endmacro %}
