{#-
  Rows of a CTE with the customer_id that its identifiers lead to, the first kind first.
  Expects a CTE `identity` over int_identity__map. Rows that lead to nobody are left out.
-#}
{% macro with_customer(rows, kinds) -%}
    {%- set found -%}
        coalesce({% for kind in kinds %}by_{{ kind }}.customer_id, {% endfor %}null)
    {%- endset -%}
    select
        {{ rows }}.*,
        {{ found }} as customer_id
    from {{ rows }}
    {%- for kind in kinds %}
    left join identity as by_{{ kind }}
        on by_{{ kind }}.identifier_kind = '{{ kind }}'
        and by_{{ kind }}.identifier_value = {{ rows }}.{{ kind }}
    {%- endfor %}
    where {{ found }} is not null
{%- endmacro %}
