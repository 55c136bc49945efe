{#- A number as a decimal: the sum of such numbers does not depend on their order. -#}
{% macro exact(expression) -%}
    cast({{ expression }} as decimal(28, 12))
{%- endmacro %}
