{#- The moment the build is for, as a UTC timestamp. Nothing in the project reads the clock. -#}
{% macro as_of() -%}
    {%- set moment = var('as_of', none) -%}
    {%- if execute and not moment -%}
        {{ exceptions.raise_compiler_error("var as_of is missing; pass --vars '{as_of: \"2026-01-31 06:00:00\"}' (UTC)") }}
    {%- endif -%}
    cast('{{ moment }}' as timestamp)
{%- endmacro %}
