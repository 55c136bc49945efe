{#- A table that the engine writes, with the given columns; no rows before its first run. -#}
{% macro read_engine(table, columns) -%}
    {%- set relation = source('nextmove_engine', table) -%}
    {%- set found = adapter.get_relation(relation.database, relation.schema, relation.identifier) if execute else relation -%}
    {{ return(nextmove.typed_select(relation if found, columns, columns if found else {})) }}
{%- endmacro %}
