-- A customer that was merged into another is no customer, and the other one is.
with customers as (
    select customer_id from {{ ref('dim_customers') }}
)

select merges.old_customer_id, merges.customer_id
from {{ ref('int_identity__merges') }} as merges
left join customers as gone on merges.old_customer_id = gone.customer_id
left join customers as survivor on merges.customer_id = survivor.customer_id
where gone.customer_id is not null or survivor.customer_id is null
