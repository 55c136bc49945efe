with identity as (
    select * from {{ ref('int_identity__map') }}
),

contacts as (
    select *
    from {{ ref('stg_crm__contacts') }}
    where created_at <= {{ nextmove.as_of() }}
),

resolved as (
    {{ nextmove.with_customer('contacts', ['contact_id', 'email']) }}
),

-- Of several CRM records of one person the one last touched speaks.
ranked as (
    select
        resolved.*,
        row_number() over (
            partition by customer_id order by updated_at desc, {{ nextmove.in_byte_order('contact_id') }} desc
        ) as recency
    from resolved
),

contact_deals as (
    select resolved.customer_id, count(*) as open_deals
    from {{ ref('stg_crm__deals') }} as deals
    inner join resolved on deals.contact_id = resolved.contact_id
    where deals.stage = 'open' and deals.created_at <= {{ nextmove.as_of() }}
    group by 1
),

account_deals as (
    select account_id, count(*) as deals_won
    from {{ ref('stg_crm__deals') }}
    where stage = 'won' and created_at <= {{ nextmove.as_of() }}
    group by 1
)

select
    ranked.customer_id,
    ranked.contact_id,
    ranked.account_id,
    ranked.owner_rep_id as rep_id,
    ranked.first_name,
    ranked.time_zone,
    ranked.country,
    ranked.region,
    ranked.lifecycle_stage,
    ranked.tier,
    cast(coalesce(contact_deals.open_deals, 0) as integer) as open_deals,
    cast(coalesce(account_deals.deals_won, 0) as integer) as account_deals_won,
    accounts.employees as account_employees,
    ranked.created_at,
    ranked.updated_at
from ranked
left join contact_deals on ranked.customer_id = contact_deals.customer_id
left join account_deals on ranked.account_id = account_deals.account_id
left join {{ ref('stg_crm__accounts') }} as accounts on ranked.account_id = accounts.account_id
where ranked.recency = 1
