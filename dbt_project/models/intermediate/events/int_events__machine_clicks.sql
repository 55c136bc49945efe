{#-
  Clicks that no person made, by when they were made; what vendors flag themselves is not here.
  Nobody has a mail delivered, reads it and clicks within 10 seconds of its acceptance (the second
  minute before it is for clocks that differ), and nobody follows three links within 3 seconds.
  A tap on a push message may be that quick. Two clicks may be one person's double click.
-#}
{{ config(materialized='view') }}

with clicks as (
    select
        event_key,
        decision_id,
        channel,
        occurred_at,
        lag(occurred_at, 2) over (partition by decision_id order by occurred_at, event_key) as two_before,
        lag(occurred_at, 1) over (partition by decision_id order by occurred_at, event_key) as one_before,
        lead(occurred_at, 1) over (partition by decision_id order by occurred_at, event_key) as one_after,
        lead(occurred_at, 2) over (partition by decision_id order by occurred_at, event_key) as two_after
    from {{ ref('int_events__messages') }}
    where event_type = 'click' and decision_id is not null and not is_machine
),

accepted as (
    select decision_id, min(attempted_at) as accepted_at
    from {{ ref('fct_deliveries') }}
    where status = 'accepted'
    group by 1
),

timed as (
    select
        clicks.*,
        3600 * {{ nextmove.hours_between('accepted.accepted_at', 'clicks.occurred_at') }} as seconds_after,
        3600 * {{ nextmove.hours_between('clicks.two_before', 'clicks.occurred_at') }} as last_three,
        3600 * {{ nextmove.hours_between('clicks.one_before', 'clicks.one_after') }} as middle_three,
        3600 * {{ nextmove.hours_between('clicks.occurred_at', 'clicks.two_after') }} as first_three
    from clicks
    left join accepted on clicks.decision_id = accepted.decision_id
)

select event_key
from timed
where
    (channel = 'email' and seconds_after >= -60 and seconds_after < 10)
    or last_three <= 3
    or middle_three <= 3
    or first_three <= 3
