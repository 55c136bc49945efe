{#- The columns that a relation has in the warehouse: name -> type, both lower case. -#}
{% macro column_types(relation) -%}
    {%- set types = {} -%}
    {%- for column in adapter.get_columns_in_relation(relation) -%}
        {%- do types.update({column.name | lower: column.data_type | lower}) -%}
    {%- endfor -%}
    {{ return(types) }}
{%- endmacro %}
