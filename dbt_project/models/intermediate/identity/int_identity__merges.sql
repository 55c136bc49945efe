with history as (
    select * from {{ ref('int_identity__history') }}
),

identity as (
    select * from {{ ref('int_identity__map') }}
),

current_customers as (
    select distinct customer_id from identity
),

-- Where the identifiers of a customer that is no more have gone. After a split there may be
-- several places; the one that named the customer decides.
successors as (
    select
        history.customer_id as old_customer_id,
        identity.customer_id,
        max(moved.valid_from) as merged_at,
        max(case
            when history.customer_id = {{ nextmove.customer_id_of('history.identifier_kind', 'history.identifier_value') }}
                then 1
            else 0
        end) as has_founder
    from history
    inner join identity
        on history.identifier_kind = identity.identifier_kind
        and history.identifier_value = identity.identifier_value
    inner join history as moved
        on history.identifier_kind = moved.identifier_kind
        and history.identifier_value = moved.identifier_value
        and identity.customer_id = moved.customer_id
    left join current_customers on history.customer_id = current_customers.customer_id
    where current_customers.customer_id is null
    group by 1, 2
),

ranked as (
    select
        successors.*,
        row_number() over (
            partition by old_customer_id order by has_founder desc, customer_id
        ) as choice
    from successors
)

select old_customer_id, customer_id, merged_at
from ranked
where choice = 1
