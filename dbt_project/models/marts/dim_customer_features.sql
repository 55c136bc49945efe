{% set channels = ['email', 'push', 'sms'] %}
{% set build = local_md5(var('as_of', '') ~ '|' ~ project_name) %}

with customers as (
    select * from {{ ref('dim_customers') }}
),

final as (
    select
        customers.customer_id,
        customers.external_id,
        {{ nextmove.as_of() }} as as_of,
        '{{ build }}' as profile_build,
        cast(mod(
            cast(floor({{ nextmove.hours_between("timestamp '1970-01-01 00:00:00'", nextmove.as_of()) }} / 24) as integer)
            + {{ nextmove.stable_bucket('customers.customer_id', 6) }}, 6
        ) as integer) as turn,
        customers.lifecycle_stage,
        customers.tier,
        customers.country,
        customers.region,
        customers.time_zone,
        {{ nextmove.days_since('coalesce(web.signed_up_at, crm.created_at, customers.first_seen_at)') }} as days_since_signup,
        {{ nextmove.days_since('orders.last_order_at') }} as days_since_last_order,
        {{ nextmove.count_of('orders.orders_count') }},
        {{ nextmove.count_of('orders.orders_90d') }},
        coalesce(orders.revenue_cents, 0) as revenue_cents,
        orders.avg_order_cents,
        {{ nextmove.days_since('web.last_visit_at') }} as days_since_last_visit,
        {{ nextmove.count_of('web.onboarding_steps') }},
        {{ nextmove.count_of('web.features_used_30d') }},
        {{ nextmove.count_of('web.page_views_24h') }},
        web.pages_24h,
        web.last_page_class,
        {% for column in ['price_visits_24h', 'price_visits_7d', 'cart_visits_24h'] %}
        {{ nextmove.count_of('web.' ~ column) }},
        {% endfor %}
        {% for column in ['opens_2d', 'opens_14d', 'clicks_2d', 'clicks_14d'] %}
        {{ nextmove.count_of('messages.' ~ column) }},
        {% endfor %}
        coalesce(messages.engagement_velocity, 0) as engagement_velocity,
        {% for column in ['ad_clicks_7d', 'chats_7d', 'forms_7d'] %}
        {{ nextmove.count_of('intent.' ~ column) }},
        {% endfor %}
        cast(
            ln(1 + coalesce(intent.ad_clicks_7d, 0))
            + ln(1 + 2 * coalesce(intent.chats_7d, 0))
            + ln(1 + 3 * coalesce(intent.forms_7d, 0)) as double precision
        ) as cross_channel_intent,
        messages.preferred_channel,
        {% for part in var('nextmove_hours').parts %}
        hours.seen_{{ part }},
        {% endfor %}
        {% for c in channels %}
        cast(coalesce(messages.{{ c }}_clicks, 0) + 1 as double precision) / (
            coalesce(messages.{{ c }}_other_sends, 0) + coalesce(decisions.{{ c }}_sends, 0) + 10
        ) as {{ c }}_click_rate,
        {% endfor %}
        coalesce(support.open_complaints, 0) = 1 as has_open_complaint,
        {{ nextmove.days_since('support.last_complaint_at') }} as days_since_complaint,
        support.complaint_sentiment,
        decisions.last_action,
        decisions.last_channel,
        decisions.last_incentive,
        {{ nextmove.days_since('decisions.last_decision_at') }} as days_since_last_decision,
        {{ nextmove.days_since('decisions.last_send_at') }} as days_since_last_send,
        {{ nextmove.count_of('decisions.step') }},
        coalesce(decisions.messages_waiting, '') as messages_waiting,
        {% for column in ['sends', 'email_sends', 'push_sends', 'sms_sends', 'rep_sends'] %}
        {% for days in [1, 7, 30] %}
        {{ nextmove.count_of('decisions.' ~ column ~ '_' ~ days ~ 'd') }},
        {% endfor %}
        {% endfor %}
        customers.is_suppressed,
        {% for c in channels + ['rep'] %}
        permissions.consent_{{ c }},
        permissions.service_consent_{{ c }},
        {% endfor %}
        customers.email is not null as has_email,
        customers.phone is not null as has_phone,
        coalesce(web.push_tokens, 0) = 1 as has_push,
        crm.contact_id is not null and crm.rep_id is not null as has_rep,
        {{ nextmove.count_of('crm.open_deals') }},
        {{ nextmove.count_of('crm.account_deals_won') }},
        crm.account_employees
    from customers
    {% for name in ['web', 'messages', 'orders', 'support', 'intent', 'permissions', 'crm', 'decisions', 'hours'] %}
    left join {{ ref('int_features__' ~ name) }} as {{ name }} on customers.customer_id = {{ name }}.customer_id
    {% endfor %}
)

select * from final
