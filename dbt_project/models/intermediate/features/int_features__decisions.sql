with ranked as (
    select
        customer_id,
        decision_id as last_decision_id,
        p_action as last_p_action,
        agent as last_agent,
        action as last_action,
        channel as last_channel,
        incentive as last_incentive,
        decided_at as last_decision_at,
        row_number() over (
            partition by customer_id order by decided_at desc, decision_id desc
        ) as recency
    from {{ ref('fct_decisions') }}
),

-- A send whose outcome is unknown counts: the message may well have arrived.
sends as (
    select send_key, customer_id, channel, max(attempted_at) as sent_at
    from {{ ref('fct_deliveries') }}
    where status in ('accepted', 'unknown')
    group by 1, 2, 3
),

sent as (
    select
        customer_id as sent_to,
        max(sent_at) as last_send_at,
        cast(count(*) as integer) as step,
        {% for channel in ['email', 'push', 'sms', 'rep'] %}
        sum(case when channel = '{{ channel }}' then 1 else 0 end) as {{ channel }}_sends,
        {% for days in [1, 7, 30] %}
        {{ nextmove.count_within('sent_at', 24 * days, "channel = '" ~ channel ~ "'") }} as {{ channel }}_sends_{{ days }}d,
        {% endfor %}
        {% endfor %}
        {% for days in [1, 7, 30] %}
        {{ nextmove.count_within('sent_at', 24 * days) }} as sends_{{ days }}d{{ ',' if not loop.last }}
        {% endfor %}
    from sends
    group by 1
),

-- A message that failed or was skipped is over; one that did not get through is tried again.
ended as (
    select decision_id from {{ ref('fct_deliveries') }} where status <> 'not_sent' group by 1
),

waiting as (
    select
        decisions.customer_id as waits,
        {{ dbt.listagg(
            "cast(" ~ nextmove.epoch_us('decisions.send_at') ~ " as text) || ' ' || decisions.channel"
                ~ " || ' ' || decisions.decision_id",
            "','", 'order by decisions.send_at, decisions.decision_id'
        ) }} as messages_waiting
    from {{ ref('fct_decisions') }} as decisions
    left join ended on decisions.decision_id = ended.decision_id
    where decisions.action <> 'no_action'
        and coalesce(decisions.carried_out_by, 'delivery') = 'delivery'
        and decisions.expires_at > {{ nextmove.as_of() }}
        and ended.decision_id is null
    group by 1
)

select
    ranked.customer_id,
    ranked.last_decision_id,
    ranked.last_p_action,
    ranked.last_agent,
    ranked.last_action,
    ranked.last_channel,
    ranked.last_incentive,
    ranked.last_decision_at,
    waiting.messages_waiting,
    sent.*
from ranked
left join sent on ranked.customer_id = sent.sent_to
left join waiting on ranked.customer_id = waiting.waits
where ranked.recency = 1
