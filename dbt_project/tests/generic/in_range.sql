{#- Values lie in the range: `from` and `up_to` belong to it, `above` does not. NULL passes. -#}
{% test in_range(model, column_name, from=none, above=none, up_to=none) %}
select {{ column_name }}
from {{ model }}
where 1 = 0
{%- if from is not none %}
    or {{ column_name }} < {{ from }}
{%- endif %}
{%- if above is not none %}
    or {{ column_name }} <= {{ above }}
{%- endif %}
{%- if up_to is not none %}
    or {{ column_name }} > {{ up_to }}
{%- endif %}
{% endtest %}
