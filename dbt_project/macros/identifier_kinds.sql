{#- The kinds of identifier, in the order in which they name a person best. -#}
{% macro identifier_kinds() -%}
    {{ return(['user_id', 'contact_id', 'email', 'phone', 'shop_customer_id', 'anonymous_id']) }}
{%- endmacro %}
