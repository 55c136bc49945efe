{#- A number of days as words. -#}
{% macro days_ago(column) -%}
    case
        when {{ column }} < 1 then 'today'
        when {{ column }} < 2 then 'yesterday'
        else cast(cast(floor({{ column }}) as integer) as text) || ' days ago'
    end
{%- endmacro %}
