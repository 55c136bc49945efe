{{ config(materialized='view', tags=['standing']) }}

{% set named = {
    'Signed Up': 'signup',
    'Onboarding Step Completed': 'onboarding_step',
    'Feature Used': 'feature_use'
} %}

with orders as (
    select
        'order' as event,
        order_id as event_id,
        customer_id,
        cast(null as text) as decision_id,
        cast(net_cents as double precision) / 100 as value,
        false as is_machine,
        ordered_at as occurred_at
    from {{ ref('int_events__orders') }}
    where status = 'paid'
),

-- Who leaves everything is told of once for each channel. That is one act.
told as (
    select
        messages.*,
        row_number() over (
            partition by vendor, event_type, customer_id, decision_id, occurred_at
            order by event_key
        ) as part
    from {{ ref('int_events__messages') }} as messages
),

messages as (
    select
        messages.event_type as event,
        messages.event_key as event_id,
        messages.customer_id,
        messages.decision_id,
        cast(1 as double precision) as value,
        messages.is_machine or machine_clicks.event_key is not null as is_machine,
        messages.occurred_at
    from told as messages
    left join {{ ref('int_events__machine_clicks') }} as machine_clicks
        on messages.event_key = machine_clicks.event_key
    where
        (event_type in ('unsubscribe', 'complaint') and part = 1)
        -- Good news only of a message that we know: another campaign's, or a made-up one, teaches
        -- nothing. Who leaves is heard in any case.
        or (event_type in ('open', 'click', 'bounce') and decision_id is not null)
),

-- A visit is a session, however many pages it has.
visits as (
    select
        'visit' as event,
        coalesce(session_id, message_id) as event_id,
        customer_id,
        cast(null as text) as decision_id,
        cast(1 as double precision) as value,
        false as is_machine,
        min(occurred_at) as occurred_at
    from {{ ref('int_events__web') }}
    where type in ('page', 'screen')
    group by 1, 2, 3, 4, 5, 6
),

moments as (
    select
        case event
            {% for name, outcome in named.items() %}
            when '{{ name }}' then '{{ outcome }}'
            {% endfor %}
        end as event,
        message_id as event_id,
        customer_id,
        cast(null as text) as decision_id,
        cast(1 as double precision) as value,
        false as is_machine,
        occurred_at
    from {{ ref('int_events__web') }}
    where event in ('{{ named | join("', '") }}')
)

select * from orders
union all
select * from messages
union all
select * from visits
union all
select * from moments
