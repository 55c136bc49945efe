with customers as (
    select * from {{ ref('dim_customers') }}
),

features as (
    select * from {{ ref('dim_customer_features') }}
)

select
    customers.external_id as key,
    customers.external_id,
    customers.customer_id,
    customers.email,
    customers.first_name,
    customers.time_zone,
    customers.country,
    customers.lifecycle_stage,
    customers.tier,
    features.orders_count,
    features.preferred_channel,
    features.last_action
from customers
inner join features on customers.customer_id = features.customer_id
-- A profile nobody can be reached by is only cost; a suppressed one must not come back to life.
where (customers.email is not null or customers.external_id <> customers.customer_id)
    and not customers.is_suppressed
