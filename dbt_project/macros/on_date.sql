{#- The date that lies a number of days before as_of, as words that stay true as time passes. -#}
{% macro on_date(days) -%}
    'on ' || cast(cast({{ dbt.dateadd('second', '-cast(round(' ~ days ~ ' * 86400) as integer)', nextmove.as_of()) }} as date) as text)
{%- endmacro %}
