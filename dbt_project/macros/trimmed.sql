{#- A text without the blanks around it, of whatever kind: databases differ in what they trim by themselves. -#}
{% macro trimmed(column) -%}
    trim({{ column }}, '{{ nextmove.blanks() }}')
{%- endmacro %}
