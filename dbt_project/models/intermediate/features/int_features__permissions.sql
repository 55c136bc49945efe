with identity as (
    select * from {{ ref('int_identity__map') }}
),

consents as (
    select user_id, email, phone, channel, status, occurred_at
    from {{ ref('stg_consent__consents') }}
    where purpose = 'marketing' and occurred_at <= {{ nextmove.as_of() }}
),

suppressions as (
    select user_id, email
    from {{ ref('stg_consent__suppressions') }}
    where occurred_at <= {{ nextmove.as_of() }}
),

resolved_consents as (
    {{ nextmove.with_customer('consents', ['user_id', 'email', 'phone']) }}
),

statements as (
    select customer_id, channel, status, occurred_at
    from resolved_consents
    union all
    -- Who unsubscribes or complains at the vendor has withdrawn, whatever the consent table says.
    select customer_id, coalesce(channel, 'email') as channel, 'withdrawn' as status, occurred_at
    from {{ ref('int_events__messages') }}
    where event_type in ('unsubscribe', 'complaint')
),

ranked as (
    select
        customer_id,
        channel,
        case when status = 'granted' then 1 else 0 end as is_granted,
        row_number() over (
            partition by customer_id, channel
            order by occurred_at desc, case when status = 'granted' then 1 else 0 end
        ) as recency
    from statements
),

resolved_suppressions as (
    {{ nextmove.with_customer('suppressions', ['user_id', 'email']) }}
),

facts as (
    select customer_id, channel, is_granted, 0 as is_suppressed
    from ranked
    where recency = 1
    union all
    select customer_id, null as channel, null as is_granted, 1 as is_suppressed
    from resolved_suppressions
)

select
    customer_id,
    max(is_suppressed) = 1 as is_suppressed,
    max(case when channel = 'email' then is_granted end) = 1 as consent_email,
    max(case when channel = 'push' then is_granted end) = 1 as consent_push,
    max(case when channel = 'sms' then is_granted end) = 1 as consent_sms
from facts
group by 1
