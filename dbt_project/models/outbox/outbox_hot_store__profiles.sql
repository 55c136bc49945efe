{#-
  The profiles of the service. What would change every day though nothing happened is told by
  what it comes from: a moment instead of an age, and recent events instead of counts of them.
-#}
{% set line_break = "'\n'" %}
{% set moments = ['signup', 'last_order', 'last_visit', 'complaint', 'last_decision', 'last_send'] %}

with features as (
    select * from {{ ref('dim_customer_features') }}
),

identifiers as (
    select
        customer_id,
        {{ dbt.listagg("identifier_kind || ':' || identifier_value", line_break, 'order by identifier_kind, identifier_value') }} as identifiers
    from {{ ref('int_identity__map') }}
    -- A line break would let one identifier pass for two.
    where identifier_value not like {{ "'%\n%'" }}
    group by 1
)

select
    features.customer_id as key,
    features.customer_id,
    features.external_id,
    {{ nextmove.epoch_us('features.as_of') }} as as_of,
    {{ nextmove.stable_bucket('features.customer_id', 6) }} as turn_offset,
    features.lifecycle_stage,
    features.tier,
    features.country,
    features.region,
    features.time_zone,
    {% for moment in moments %}
    {{ nextmove.epoch_us('features.as_of') }}
    - cast(round(features.days_since_{{ moment }} * 86400000000) as bigint) as {{ moment }}_at,
    {% endfor %}
    features.orders_count,
    features.orders_90d,
    features.revenue_cents,
    features.avg_order_cents,
    features.onboarding_steps,
    features.features_used_30d,
    features.last_page_class,
    features.ad_clicks_7d,
    features.chats_7d,
    features.forms_7d,
    features.cross_channel_intent,
    features.preferred_channel,
    {% for part in var('nextmove_hours').parts %}
    features.seen_{{ part }},
    {% endfor %}
    features.email_click_rate,
    features.push_click_rate,
    features.sms_click_rate,
    features.has_open_complaint,
    features.complaint_sentiment,
    features.last_action,
    features.last_channel,
    features.last_incentive,
    features.step,
    features.messages_waiting,
    {% for count in ['sends', 'email_sends', 'push_sends', 'sms_sends', 'rep_sends'] %}
    {% for days in [1, 7, 30] %}
    features.{{ count }}_{{ days }}d,
    {% endfor %}
    {% endfor %}
    features.is_suppressed,
    {% for c in ['email', 'push', 'sms', 'rep'] %}
    features.consent_{{ c }},
    features.service_consent_{{ c }},
    {% endfor %}
    features.has_email,
    features.has_phone,
    features.has_push,
    features.has_rep,
    features.open_deals,
    features.account_deals_won,
    features.account_employees,
    identifiers.identifiers,
    recent.recent_events
from features
left join identifiers on features.customer_id = identifiers.customer_id
left join {{ ref('int_features__recent') }} as recent on features.customer_id = recent.customer_id
