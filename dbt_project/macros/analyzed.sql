{#- What to run after a model is built, so that the models after it are planned with its size in mind. -#}
{% macro analyzed(relation) -%}
    {{ return(adapter.dispatch('analyzed', 'nextmove')(relation)) }}
{%- endmacro %}

{% macro default__analyzed(relation) -%} {%- endmacro %}

{#- Postgres analyzes a new table by itself, but minutes later. -#}
{% macro postgres__analyzed(relation) -%}
    {%- if model.config.materialized != 'view' -%} analyze {{ relation }} {%- endif -%}
{%- endmacro %}
