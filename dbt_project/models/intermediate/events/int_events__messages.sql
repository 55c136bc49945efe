with inbound as (
    select
        event_id, vendor, event_type, external_id, email, channel, campaign_id, message_ref, decision_id,
        is_machine, occurred_at, received_at
    from {{ ref('stg_esp__events') }}
    union all
    select
        event_id, vendor, event_type, external_id, email, channel, campaign_id, message_ref, decision_id,
        is_machine, occurred_at, received_at
    from {{ ref('stg_nextmove__inbound_events') }}
),

events as (
    select
        inbound.*,
        -- The same event may come through our webhook and through the customer's own loader;
        -- the copy that knows its decision is the better one.
        row_number() over (
            partition by vendor, event_id
            order by case when decision_id is null then 1 else 0 end, received_at
        ) as delivery
    from inbound
    where occurred_at <= {{ nextmove.as_of() }}
),

identity as (
    select * from {{ ref('int_identity__map') }}
),

-- What a vendor may echo: a user id, a customer_id, or one that was merged into another since;
-- or a CRM its own id of a contact.
external_ids as (
    select identifier_value as external_id, customer_id
    from identity
    where identifier_kind = 'user_id'
    union all
    select distinct customer_id as external_id, customer_id
    from identity
    union all
    select old_customer_id as external_id, customer_id
    from {{ ref('int_identity__merges') }}
    union all
    select distinct 'contact:' || contacts.contact_id as external_id, identity.customer_id
    from {{ ref('stg_crm__contacts') }} as contacts
    inner join identity
        on identity.identifier_kind = 'email' and contacts.email = identity.identifier_value
),

resolved as (
    select
        events.*,
        external_ids.customer_id as addressee_id,
        coalesce(external_ids.customer_id, emails.customer_id) as customer_id
    from events
    left join external_ids on events.external_id = external_ids.external_id
    left join identity as emails
        on emails.identifier_kind = 'email' and events.email = emails.identifier_value
    where delivery = 1
),

-- A vendor may give many recipients of one request the same reference: it takes the person too.
by_reference as (
    select vendor_ref, customer_id, min(decision_id) as decision_id
    from {{ ref('fct_deliveries') }}
    where vendor_ref is not null
    group by 1, 2
)

select
    resolved.vendor || ':' || resolved.event_id as event_key,
    coalesce(decisions.customer_id, resolved.customer_id) as customer_id,
    coalesce(decisions.decision_id, by_reference.decision_id) as decision_id,
    resolved.vendor,
    resolved.campaign_id,
    resolved.event_type,
    coalesce(resolved.channel, decisions.channel) as channel,
    resolved.is_machine,
    resolved.occurred_at
from resolved
-- Whoever names a decision names its customer too, or nobody; else it is not about that decision.
left join {{ ref('fct_decisions') }} as decisions
    on resolved.decision_id = decisions.decision_id
    and coalesce(resolved.customer_id, decisions.customer_id) = decisions.customer_id
left join by_reference
    on resolved.message_ref = by_reference.vendor_ref
    and resolved.addressee_id = by_reference.customer_id
where coalesce(decisions.customer_id, resolved.customer_id) is not null
