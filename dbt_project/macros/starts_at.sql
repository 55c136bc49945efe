{#- When what a decision earns begins to count: when its message is meant to leave, or at once. -#}
{% macro starts_at(decisions) -%}
    coalesce({{ decisions }}.send_at, {{ decisions }}.decided_at)
{%- endmacro %}
