{#- Whether an id echoed by a vendor is one that we made ('c_' and an md5), not a user id. -#}
{% macro is_customer_id(column) -%}
    ({{ column }} like 'c!_%' escape '!' and length({{ column }}) = 34)
{%- endmacro %}
