with identity as (
    select * from {{ ref('int_identity__map') }}
),

own_records as (
    select email from {{ ref('stg_crm__contacts') }} where created_at <= {{ nextmove.as_of() }}
    union
    select email from {{ ref('stg_shop__orders') }} where ordered_at <= {{ nextmove.as_of() }}
),

-- Anybody can tell the tracker of an address, so one that the company has written down comes first.
ranked as (
    select
        identity.*,
        row_number() over (
            partition by customer_id, identifier_kind
            order by
                case when own_records.email is not null then 0 else 1 end,
                last_seen_at desc,
                {{ nextmove.in_byte_order('identifier_value') }}
        ) as recency
    from identity
    left join own_records
        on identity.identifier_kind = 'email' and identity.identifier_value = own_records.email
),

people as (
    select
        customer_id,
        max(case when identifier_kind = 'user_id' and recency = 1 then identifier_value end) as user_id,
        max(case when identifier_kind = 'email' and recency = 1 then identifier_value end) as email,
        max(case when identifier_kind = 'phone' and recency = 1 then identifier_value end) as phone,
        min(first_seen_at) as first_seen_at,
        max(last_seen_at) as last_seen_at
    from ranked
    group by 1
),

crm as (
    select * from {{ ref('int_features__crm') }}
),

permissions as (
    select * from {{ ref('int_features__permissions') }}
)

select
    people.customer_id,
    coalesce(people.user_id, people.customer_id) as external_id,
    people.email,
    people.phone,
    crm.first_name,
    crm.time_zone,
    crm.country,
    crm.region,
    crm.contact_id,
    crm.account_id,
    crm.rep_id,
    crm.lifecycle_stage,
    crm.tier,
    coalesce(permissions.is_suppressed, false) as is_suppressed,
    people.first_seen_at,
    case
        when crm.updated_at > people.last_seen_at and crm.updated_at <= {{ nextmove.as_of() }}
            then crm.updated_at
        else people.last_seen_at
    end as updated_at
from people
left join crm on people.customer_id = crm.customer_id
left join permissions on people.customer_id = permissions.customer_id
