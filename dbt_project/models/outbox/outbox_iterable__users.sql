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
    customers.lifecycle_stage,
    customers.tier,
    features.orders_count
from customers
inner join features on customers.customer_id = features.customer_id
where (customers.email is not null or customers.external_id <> customers.customer_id)
    and not customers.is_suppressed
