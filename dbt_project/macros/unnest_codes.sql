{#- The rows of a CTE, one for each entry of its list column: the key, and the entry as `code`. -#}
{% macro unnest_codes(rows, key, column) -%}
    {{ return(adapter.dispatch('unnest_codes', 'nextmove')(rows, key, column)) }}
{%- endmacro %}

{% macro default__unnest_codes(rows, key, column) -%}
    select {{ rows }}.{{ key }}, codes.code
    from {{ rows }}
    cross join unnest({{ rows }}.{{ column }}) as codes (code)
{%- endmacro %}

{% macro snowflake__unnest_codes(rows, key, column) -%}
    select {{ rows }}.{{ key }}, cast(codes.value as integer) as code
    from {{ rows }}, lateral flatten(input => {{ rows }}.{{ column }}) as codes
{%- endmacro %}
