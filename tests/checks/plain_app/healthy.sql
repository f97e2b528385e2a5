-- Two customers without an address are two customers.
INSERT INTO customers (id, email) VALUES (1, 'ada@example.com'), (2, 'bob@example.com'), (3, NULL), (4, NULL);
-- A draft need not add up; an order that is paid no longer waits; one that waits has its time.
INSERT INTO orders (id, customer_id, state, total_cents, pay_until) VALUES
    (1, 1, 'paid', 2500, '2020-01-01 00:00:00'), (2, 2, 'paying', 1000, '2999-01-01 00:00:00'), (3, 2, 'draft', 1, NULL),
    (4, 1, 'paid', 300, NULL), (5, 3, 'paying', 0, NULL);
INSERT INTO order_items (id, order_id, sku, quantity, price_cents) VALUES
    (1, 1, 'apple', 2, 1000), (2, 1, 'pear', 1, 500), (3, 2, 'apple', 1, 1000), (4, 4, 'plum', 3, 100);
-- The same work again after it was done, or for somebody else; a long job within its time, one that ended after it.
INSERT INTO jobs (id, kind, subject, state, run_until) VALUES
    (1, 'receipt', 'order/1', 'done', '2020-01-01 00:00:00'), (2, 'receipt', 'order/1', 'queued', NULL), (3, 'receipt', 'order/2', 'queued', NULL),
    (4, 'export', 'all', 'running', '2999-01-01 00:00:00'), (5, 'export', 'all', 'queued', NULL),
    (6, 'export', 'all', 'running', '2999-01-01 00:00:00');
