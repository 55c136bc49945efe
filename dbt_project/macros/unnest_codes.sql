{#- The rows of a CTE, one for each entry of its list column, with the entry as `code`. -#}
{% macro unnest_codes(rows, column) -%}
    {{ return(adapter.dispatch('unnest_codes', 'nextmove')(rows, column)) }}
{%- endmacro %}

{% macro default__unnest_codes(rows, column) -%}
    select {{ rows }}.*, codes.code
    from {{ rows }}
    cross join unnest({{ rows }}.{{ column }}) as codes (code)
{%- endmacro %}

{% macro snowflake__unnest_codes(rows, column) -%}
    select {{ rows }}.*, cast(codes.value as integer) as code
    from {{ rows }}, lateral flatten(input => {{ rows }}.{{ column }}) as codes
{%- endmacro %}
