{#- Days from a timestamp to as_of, with fractions; NULL when it never happened. -#}
{% macro days_since(column) -%}
    ({{ nextmove.hours_between(column, nextmove.as_of()) }} / 24)
{%- endmacro %}
