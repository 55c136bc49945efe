{#-
  Clicks that no person made, by when they were made; what vendors flag themselves is not here.
  Nobody has a mail delivered, reads it and clicks within 10 seconds of its acceptance (the second
  minute before it is for clocks that differ), and nobody follows three links within 3 seconds.
  A tap on a push message may be that quick. Two clicks may be one person's double click.

  Nor does a creative become so good in a day: when of the messages with one action, sent on one day
  (30 or more), the share that was clicked is 30 points above that of the agent's messages in the
  four weeks before (100 or more), somebody makes clicks up, and none of that day's is believed.
-#}
{{ config(materialized='view', tags=['standing']) }}

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
    select decision_id, agent, action, min(attempted_at) as accepted_at
    from {{ ref('fct_deliveries') }}
    where status = 'accepted'
    group by 1, 2, 3
),

timed as (
    select
        clicks.*,
        accepted.agent,
        accepted.action,
        accepted.accepted_at,
        3600 * {{ nextmove.hours_between('accepted.accepted_at', 'clicks.occurred_at') }} as seconds_after,
        3600 * {{ nextmove.hours_between('clicks.two_before', 'clicks.occurred_at') }} as last_three,
        3600 * {{ nextmove.hours_between('clicks.one_before', 'clicks.one_after') }} as middle_three,
        3600 * {{ nextmove.hours_between('clicks.occurred_at', 'clicks.two_after') }} as first_three
    from clicks
    left join accepted on clicks.decision_id = accepted.decision_id
),

arms as (
    select
        accepted.agent,
        accepted.action,
        cast(accepted.accepted_at as date) as sent_on,
        count(*) as messages,
        count(clicked.decision_id) as clicked
    from accepted
    left join (select distinct decision_id from clicks) as clicked
        on accepted.decision_id = clicked.decision_id
    group by 1, 2, 3
),

days as (
    select agent, sent_on, sum(messages) as messages, sum(clicked) as clicked
    from arms
    group by 1, 2
),

made_up as (
    select arms.agent, arms.action, arms.sent_on
    from arms
    inner join days
        on arms.agent = days.agent
        and days.sent_on < arms.sent_on
        and days.sent_on >= {{ dbt.dateadd('day', -28, 'arms.sent_on') }}
    group by 1, 2, 3
    having
        max(arms.messages) >= 30
        and sum(days.messages) >= 100
        and 1.0 * max(arms.clicked) / max(arms.messages) > 1.0 * sum(days.clicked) / sum(days.messages) + 0.3
)

select event_key
from timed
left join made_up
    on timed.agent = made_up.agent
    and timed.action = made_up.action
    and cast(timed.accepted_at as date) = made_up.sent_on
where
    made_up.sent_on is not null
    or (channel = 'email' and seconds_after >= -60 and seconds_after < 10)
    or last_three <= 3
    or middle_three <= 3
    or first_three <= 3
