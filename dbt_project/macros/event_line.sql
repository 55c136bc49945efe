{#-
  One event as one line of `recent_events`: its moment in microseconds since 1970, then the
  given columns, with a tab between them. A NULL is empty; a tab or line break within a value
  becomes a space, so that nobody's id can pass for a line of its own.
-#}
{% macro event_line(moment, columns) -%}
    {%- set tab, line_break = "'\t'", "'\n'" -%}
    cast({{ nextmove.epoch_us(moment) }} as text)
    {%- for column in columns %}
    || {{ tab }} || replace(replace(coalesce({{ column }}, ''), {{ tab }}, ' '), {{ line_break }}, ' ')
    {%- endfor %}
{%- endmacro %}
