{#- The model has exactly as many rows as another one. -#}
{% test same_rows_as(model, other) %}
select counts.ours, counts.theirs
from (
    select
        (select count(*) from {{ model }}) as ours,
        (select count(*) from {{ other }}) as theirs
) as counts
where counts.ours <> counts.theirs
{% endtest %}
