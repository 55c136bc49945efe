with identity as (
    select * from {{ ref('int_identity__map') }}
),

consents as (
    select
        user_id,
        email,
        phone,
        channel,
        purpose,
        -- A profile is good for 48 hours, so a consent that ends within them has ended.
        case
            when expires_at <= {{ dbt.dateadd('hour', 48, nextmove.as_of()) }} then 'withdrawn'
            else status
        end as status,
        occurred_at
    from {{ ref('stg_consent__consents') }}
    where occurred_at <= {{ nextmove.as_of() }}
),

suppressions as (
    select user_id, email
    from {{ ref('stg_consent__suppressions') }}
    where occurred_at <= {{ nextmove.as_of() }}
),

resolved_consents as (
    {{ nextmove.with_customer('consents', ['user_id', 'email', 'phone']) }}
),

opt_outs as (
    select customer_id, channel, occurred_at
    from {{ ref('int_events__messages') }}
    where event_type in ('unsubscribe', 'complaint')
),

statements as (
    select customer_id, channel, purpose, status, occurred_at
    from resolved_consents
    union all
    -- Who unsubscribes or complains at the vendor has withdrawn, whatever the consent table says.
    select customer_id, coalesce(channel, 'email') as channel, 'marketing', 'withdrawn', occurred_at
    from opt_outs
    union all
    -- Whether they still want service messages is then not known.
    select customer_id, coalesce(channel, 'email') as channel, 'service', 'unknown', occurred_at
    from opt_outs
),

ranked as (
    select
        customer_id,
        channel,
        purpose,
        case status when 'granted' then 1 when 'withdrawn' then 0 end as is_granted,
        row_number() over (
            partition by customer_id, channel, purpose
            order by occurred_at desc, case when status = 'granted' then 1 else 0 end
        ) as recency
    from statements
),

resolved_suppressions as (
    {{ nextmove.with_customer('suppressions', ['user_id', 'email']) }}
),

facts as (
    select customer_id, channel, purpose, is_granted, 0 as is_suppressed
    from ranked
    where recency = 1
    union all
    select customer_id, null as channel, null as purpose, null as is_granted, 1 as is_suppressed
    from resolved_suppressions
)

select
    customer_id,
    max(is_suppressed) = 1 as is_suppressed,
    {% for c in ['email', 'push', 'sms', 'rep'] %}
    {% set marketing = "max(case when purpose = 'marketing' and channel = '" ~ c ~ "' then is_granted end)" %}
    {% set service = "max(case when purpose = 'service' and channel = '" ~ c ~ "' then is_granted end)" %}
    {{ marketing }} = 1 as consent_{{ c }},
    -- Consent to marketing covers service messages, unless something was said about those alone.
    coalesce({{ service }}, {{ marketing }}) = 1 as service_consent_{{ c }}{{ ',' if not loop.last }}
    {% endfor %}
from facts
group by 1
