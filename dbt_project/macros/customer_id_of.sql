{#- The customer_id of the person whose earliest-seen identifier this is. -#}
{% macro customer_id_of(kind, value) -%}
    'c_' || md5({{ kind }} || ':' || {{ value }})
{%- endmacro %}
