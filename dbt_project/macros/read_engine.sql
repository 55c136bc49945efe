{#-
  A table that the engine writes, with the given columns; no rows before its first run.
  The warehouse is asked: with several threads, dbt's cache of relations may know of a few
  tables of a schema and not yet of the others.
-#}
{% macro read_engine(table, columns) -%}
    {%- set relation = source('nextmove_engine', table) -%}
    {%- set present = nextmove.column_types(relation) if execute else columns -%}
    {{ return(nextmove.typed_select(relation if present, columns, present)) }}
{%- endmacro %}
