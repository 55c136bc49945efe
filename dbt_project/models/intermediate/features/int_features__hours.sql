{#-
  When on their own clock people are about: the share of each part of the day, of the last 90 days.
  A part of a day counts once, however many pages were seen in it. Everybody's share is drawn
  towards that of all people together, as if they had been seen `weight` times more at the hours
  that are usual: (own + weight * usual share) / (all of their own + weight). So of whom little is
  known has the usual hours, and who comes often their own. To the hundredth, so that a profile
  does not change whenever somebody else is seen.
-#}
{% set hours = var('nextmove_hours') %}

with customers as (
    select customer_id, time_zone from {{ ref('dim_customers') }}
),

seen as (
    select customer_id, occurred_at
    from {{ ref('int_events__web') }}
    where type in ('page', 'screen') and occurred_at > {{ nextmove.before_as_of(24 * hours.days) }}
    union all
    select messages.customer_id, messages.occurred_at
    from {{ ref('int_events__messages') }} as messages
    left join {{ ref('int_events__machine_clicks') }} as machines on messages.event_key = machines.event_key
    where messages.event_type in ('open', 'click') and not messages.is_machine
        and machines.event_key is null
        and messages.occurred_at > {{ nextmove.before_as_of(24 * hours.days) }}
),

-- Grouped, though no two are alike, so that no planner compares all that was seen with all zones.
clocks as (
    select customers.customer_id, zones.offset_minutes, zones.valid_from, zones.valid_until
    from customers
    inner join {{ ref('stg_nextmove__zone_offsets') }} as zones on customers.time_zone = zones.time_zone
    group by 1, 2, 3, 4
),

on_their_clock as (
    select
        seen.customer_id,
        {{ dbt.dateadd('minute', 'clocks.offset_minutes', 'seen.occurred_at') }} as local_at
    from seen
    inner join clocks
        on seen.customer_id = clocks.customer_id
        and seen.occurred_at >= clocks.valid_from
        and seen.occurred_at < clocks.valid_until
),

parts as (
    select
        customer_id,
        cast(local_at as date) as local_day,
        case
            {% for part, edges in hours.parts.items() %}
            when extract(hour from local_at) between {{ edges[0] }} and {{ edges[1] - 1 }} then '{{ part }}'
            {% endfor %}
        end as part
    from on_their_clock
    group by 1, 2, 3
),

counts as (
    select
        customer_id,
        {% for part in hours.parts %}
        sum(case when part = '{{ part }}' then 1 else 0 end) as {{ part }},
        {% endfor %}
        count(*) as times
    from parts
    group by 1
),

usual as (
    select
        {% for part in hours.parts %}
        cast(sum({{ part }}) as double precision) / sum(times) as {{ part }}{{ ',' if not loop.last }}
        {% endfor %}
    from counts
)

select
    customers.customer_id,
    {% for part in hours.parts %}
    round(
        100 * (coalesce(counts.{{ part }}, 0) + {{ hours.weight }} * usual.{{ part }})
        / (coalesce(counts.times, 0) + {{ hours.weight }})
    ) / 100 as seen_{{ part }}{{ ',' if not loop.last }}
    {% endfor %}
from customers
cross join usual
left join counts on customers.customer_id = counts.customer_id
