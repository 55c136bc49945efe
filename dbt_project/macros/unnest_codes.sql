{#- A from-clause: the relation's rows, one for each entry `code` of its list column. -#}
{% macro unnest_codes(relation, column) -%}
    {{ return(adapter.dispatch('unnest_codes', 'nextmove')(relation, column)) }}
{%- endmacro %}

{% macro default__unnest_codes(relation, column) -%}
    {{ relation }} cross join unnest({{ relation }}.{{ column }}) as codes (code)
{%- endmacro %}

{% macro snowflake__unnest_codes(relation, column) -%}
    {{ relation }} cross join (
        select {{ column }}_flat.value as code
        from lateral flatten(input => {{ relation }}.{{ column }}) as {{ column }}_flat
    ) as codes
{%- endmacro %}
