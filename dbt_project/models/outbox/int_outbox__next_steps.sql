with customers as (
    select *
    from {{ ref('dim_customers') }}
    where contact_id is not null and email is not null and not is_suppressed
),

features as (
    select
        customer_id,
        case
            when has_open_complaint then 'has an open complaint'
            when price_visits_7d > 0 then 'looked at prices in the last 7 days'
            when cart_visits_24h > 0 then 'has been in the cart in the last 24 hours'
            when days_since_last_order is not null
                then 'last ordered ' || {{ nextmove.on_date('days_since_last_order') }}
            when days_since_last_visit is not null
                then 'last visited ' || {{ nextmove.on_date('days_since_last_visit') }}
            else 'has not been active yet'
        end as observation
    from {{ ref('dim_customer_features') }}
),

decisions as (
    select * from {{ ref('int_features__decisions') }}
)

select
    customers.email,
    customers.external_id,
    customers.contact_id,
    customers.account_id,
    customers.rep_id,
    customers.customer_id,
    decisions.last_decision_id as nextmove_decision_id,
    decisions.last_action as nextmove_action,
    decisions.last_agent as nextmove_agent,
    'This customer ' || features.observation
    || case
        when decisions.last_action = 'no_action' then ', and not writing was chosen for the goal '
        else ', and this move was chosen for the goal '
    end || replace(decisions.last_agent, '_', ' ') || '.' as nextmove_reason,
    case
        when decisions.last_action = 'no_action' then 'No message is planned.'
        when decisions.last_channel = 'rep' then 'They are handed over to you.'
        else 'A message by ' || coalesce(decisions.last_channel, 'another channel') || ' was planned; mention it when you speak.'
    end as nextmove_next_step,
    decisions.last_p_action as nextmove_confidence,
    decisions.last_decision_at as nextmove_decided_at
from customers
inner join features on customers.customer_id = features.customer_id
inner join decisions on customers.customer_id = decisions.customer_id
