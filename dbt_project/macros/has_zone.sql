{#- Whether a warehouse type is a time with a zone. -#}
{% macro has_zone(type) -%}
    {{ return('with time zone' in type or type.startswith(('timestamptz', 'timestamp_tz', 'timestamp_ltz'))) }}
{%- endmacro %}
