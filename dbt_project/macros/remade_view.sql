{#- A view, as `remade_table` makes tables. -#}
{% materialization remade_view, adapter='duckdb' %}
    {%- set existing = load_cached_relation(this) -%}
    {%- set remade = this.incorporate(type='view') -%}
    {{ run_hooks(pre_hooks) }}
    {% call statement('main') -%}
        {% if existing %} drop {{ existing.type }} if exists {{ existing }}; {% endif %}
        {{ create_view_as(remade, sql) }}
    {%- endcall %}
    {% do persist_docs(remade, model) %}
    {{ run_hooks(post_hooks) }}
    {{ adapter.commit() }}
    {{ return({'relations': [remade]}) }}
{% endmaterialization %}
